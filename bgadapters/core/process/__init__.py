"""What belongs to the process as a whole: its end, its signals, its forks."""
