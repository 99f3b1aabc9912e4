"""Events of the loop in, messages for people out."""
