"""Files and requests as nobody would write them, into everything that reads one.

`python -m tests.fuzz [TARGET ...] --cases 100000 --engine hypothesis|atheris` is the long run; `test_fuzz.py` the short
one. `targets` says what is read and how it is used, `judge` what may come out of it, the other modules how a good file
is made a bad one.
"""
