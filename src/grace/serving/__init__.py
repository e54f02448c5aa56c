"""Servers that Grace starts itself: the embedded one for laptops and tests."""
