"""Cameras through GenICam: the strobe plan, the acquisition process, the ring, and which light a frame was lit by."""
