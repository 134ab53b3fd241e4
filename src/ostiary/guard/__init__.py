"""Where it must be looked inside: bodies, fields, records, duties kept apart, and the hand-over of a credential."""
