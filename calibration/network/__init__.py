"""The network: data, losses, training, export. The only room that knows PyTorch."""
