"""Networks: their building blocks, their descriptions, and what they cost.

Read `layers` (convolution, activation and starting weights), `primitives` (one row for everything about a primitive),
`space` (architectures as plain data, and what a search may choose among), `network` (an architecture with weights),
`cost` (parameters, multiply-adds and receptive radius), `latency` (measured time).
"""
