"""Find an architecture within budgets and train it.

Read `loop` first. It uses `run` (everything a search consists of, and how that is saved), `pace` (steps and rates of
the stages), `step` (one step of weights and architecture parameters), `fit` (the choice is brought within the budgets)
and `finetune` (the chosen network is trained, the search recorded, with a `sample` image). Beneath are `supernet` (the
three relaxed levels) with `sparse` (its projections), `budgets` (costs and the controller), `warmstart` (pretrained
supernets) and `record` (events and the record of a search).
"""
