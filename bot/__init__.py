"""The process that people talk to: settings, wiring, commands, front ends, schedule."""
