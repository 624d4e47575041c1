"""What runs inside the user's process: standard library and the target's own torch, Python 3.9 syntax.

In the target these modules are called `_torchtop.*`; they arrive over the socket and exist only while attached.
"""
