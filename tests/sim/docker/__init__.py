"""The real Docker backend on an Engine that lies, in virtual time.

The whole backend runs here as it is, its HTTP wrapper included; what is played is the Engine, one step below, where aiodocker would ask
it. A fake Engine at a socket would bring the machine's own time into the worlds, and a model of the backend would only be believed.

    loop     an event loop whose time moves when nothing else can
    engine   the Engine: containers, events, logs, images, and rows D01 to D37 of its notes that matter to us
    wire     requests and answers: late, lost, or cut off
    world    from a seed: tasks, faults, a small engine of ours that launches, dies and recovers, and the laws
"""
