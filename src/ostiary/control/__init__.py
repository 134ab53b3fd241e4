"""The composition root: what administrators can do, what holds gate and guard to it, and what tells how they stand."""
