"""Files that strangers wrote, by the hundred: what may a command do with them, and what may it cost?"""
