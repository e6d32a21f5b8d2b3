"""The actions of ``semacdr profile``, one file each: its arguments and what it does."""
