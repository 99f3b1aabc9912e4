"""The research loop: proposals, trainings, verdicts. It knows no chat and no scheduler."""
