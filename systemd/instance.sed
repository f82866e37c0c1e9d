# Makes the templates message-cleanup@.service and message-cleanup@.timer, for
# several databases on one host, of the units of the same name without the @:
# sed -f systemd/instance.sed systemd/message-cleanup.service. So there is one
# text to keep right.
s|^Description=.*|& (%i)|
s|^ExecStart=.* run$|& --config /etc/message-cleanup/%i.yaml|
s|^LoadCredential=database-url:/etc/message-cleanup/|&%i.|
s|^EnvironmentFile=.*|&-%i|
s|^# Hosts that share a database server do not|# Instances do not|
s|^RandomizedDelaySec=.*|RandomizedDelaySec=1h|
s|message-cleanup\.timer starts it|message-cleanup@%i.timer starts it|
s|systemctl edit message-cleanup\.service|systemctl edit message-cleanup@%i.service|
