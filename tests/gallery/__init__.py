"""What each platform shows of a night, in text, so that a person can judge the wording: `make gallery`."""
