"""How far a number can be believed: noise of a run, certified gains, keeps that brought nothing."""
