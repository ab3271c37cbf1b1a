"""Find an architecture within budgets and train it.

Read `loop` first; it uses `supernet` (the three relaxed levels) with `sparse` (its projections), `budgets` (costs and
the controller), `step` (one step of weights and scores), `warmstart` (pretrained supernets) and `record` (events).
"""
