"""Tasks that run elsewhere: how they are sent, and run where they arrive.

Without the option ``engine`` nothing of this is imported.
"""
