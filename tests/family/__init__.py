"""Small repositories in the shapes of the practice, each tried as a user would, from `doctor` to experiments.

`stand_ins.py` has the programs, `shapes.py` what each shape is to ask of its user, `walk.py` that user.
"""
