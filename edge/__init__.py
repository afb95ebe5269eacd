"""Foilsight on the line: from strobed frames to defect events, one room after another.

The way of the data is the order of the rooms::

    camera | recording | simulation ─Frame→ assembly ─Strip→ surface ─Surface→
    segmentation ─ClassMap→ defects ─Defect→ events

Every arrow is one type of `edge.core.types`; `edge.pipeline` joins the rooms, `edge.service` runs them.
"""
