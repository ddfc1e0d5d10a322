"""gunicorn in tests: settings that an older gunicorn does not know are ignored by it."""

control_socket_disable = True  # gunicorns of parallel tests would fight over ~/.gunicorn/gunicorn.ctl
