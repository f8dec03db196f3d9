"""How many machines, how much memory, how long an answer takes: arithmetic over what one machine was measured to do."""
