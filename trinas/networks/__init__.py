"""Networks: their building blocks, their descriptions, and what they cost.

Read it in this order:

- `layers`: convolution, activation, upsampling step, and starting weights
- `primitives`: the module of each primitive, and one row with everything else about it
- `space`: architectures as plain data, and the spaces of a search
- `network`: an architecture with weights
- `grow`: a deeper network that computes the same
- `cost`: parameters, multiply-adds and receptive radius
- `latency`: measured time
"""
