"""`zkstore shell`, also `zkCli.sh`: the commands of ZooKeeper's own shell, with its texts.

Layers, each importing only those before it: `grammar` (lines, options), `text` (how things are
shown), `link` (the session), `command` (what a command is), `nodes`, `quotas` and `service` (the
commands), `shell` (which command, history, events), `main` (start options, terminal).
Not here: talking to servers (zkstore/client/).
"""
