"""Find an architecture within budgets and train it.

Read `loop` first: it runs the three stages. It uses

- `run`: everything that a search consists of, and how it is saved and restored
- `pace`: the steps of each stage, and the rates of the optimisers
- `step`: one step of the weights and one of the architecture parameters
- `fit`: brings the chosen network within the budgets
- `finetune`: trains the chosen network, then records the search, with `sample` images

Below these are `supernet` (all networks of a space, mixed at three levels), `sparse` (projects architecture parameters
to mixtures), `budgets` (costs, and the controller that presses them down), `warmstart` (pretrained supernets) and
`record` (the events of a search, and the record at its end).
"""
