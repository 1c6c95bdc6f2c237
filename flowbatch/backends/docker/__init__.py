"""Tasks as containers of a Docker Engine.

What the Engine really does, and the rules that follow from it, are rows D01 to D37 of the engine's notes; the modules cite them.

    backend     the port: takes orders, answers with facts, keeps one record an attempt
    engines     one of it for each Engine that is used
    attempts    that record
    launching   create and start, exactly once an attempt
    binds       the folders of this machine that it mounts, right before that
    following   what is done about an attempt that has begun: looks, stops, its log, its removal
    watching    events as hints, lists and inspections as the truth
    health      whether the Engine answers; nothing fails because it does not
    disk        whether there is room; what meets a full disk waits
    pulls       images, one pull of each at a time
    digests     which image a tag meant
    logs, frames   the Engine's log of a container into ours
    body, names, ends   pure: what is asked of the Engine, and what its answers mean
    endpoints, tunnel   where the Engine is; TLS, ssh
    api, errors    the Engine's HTTP API, each call with a deadline
"""
