"""One module per ACME client: `issue(ca, folder=…, count=…)` gets `count` certificates as its users would.

Each gets one certificate before the clock starts, which makes its account and warms everything up.
"""
