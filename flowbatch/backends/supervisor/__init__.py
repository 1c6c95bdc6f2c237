"""The supervisor: does for processes what dockerd does for containers. One per state folder; it outlives the engine.

It runs alone (`python -I -S …/supervisor FOLDER`), with the standard library only. Theory of operation, one turn of its
single thread: wait for news (orders, output, ends) → reap what ended → claim and start what is due → write the journal, with
one sync for all ends of the turn → tell. An end is told only once the journal holds it; a start is made only once its claim
is written, so at any instant a successor can say of every attempt: never begun, ended so, or lost.

The journal's claims need no sync: with the same boot the page cache keeps them through any kill, and another boot makes
everything LOST that has no end.
"""
