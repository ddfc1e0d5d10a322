"""gunicorn as the three services run it: four sync workers, one request at a time each.

Read by gunicorn from its working directory. Settings that an older gunicorn does not know are ignored by it.
"""

workers = 4
worker_class = "sync"
control_socket_disable = True  # three gunicorns of one user would fight over ~/.gunicorn/gunicorn.ctl
