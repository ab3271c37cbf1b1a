"""What a network is, what it is made of, and what it costs.

Read `space` (architectures as plain data), `primitives` (their modules), `network` (an architecture with weights),
`cost` (parameters and multiply-adds), `latency` (measured time).
"""
