"""The conformance kit: what every channel must do, written once, run over the wire.

`rig.Rig` is a platform with people on it, `gate.Gate` a door on the way to its server where things go wrong,
`scenarios` what must hold, `table` what of it was proven.
"""
