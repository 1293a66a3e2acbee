"""Training: the distillation recipes, from label files and rendered figures to a student."""
