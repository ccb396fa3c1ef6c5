"""What an Amazon Linux Beanstalk instance has before the first deployment, as a layer over this machine's root."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = Path(sys.base_prefix) / "bin" / "python3"
USERS = {"webapp": 900, "nginx": 901}

NGINX_CONF = """\
user nginx;
error_log /var/log/nginx/error.log warn;
pid /run/nginx.pid;
worker_processes auto;
worker_rlimit_nofile 32153;
events { worker_connections 1024; }
http {
    server_tokens off;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_user_agent"';
    include conf.d/*.conf;
    map $http_upgrade $connection_upgrade { default "upgrade"; }
    server {
        listen 80 default_server;
        access_log /var/log/nginx/access.log main;
        client_header_timeout 60;
        client_body_timeout 60;
        keepalive_timeout 60;
        gzip off;
        include conf.d/elasticbeanstalk/*.conf;
    }
}
"""
APPLICATION_CONF = """\
location / {
    proxy_pass http://127.0.0.1:8000;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
}
"""
WEB_SERVICE = """\
[Service]
Type=simple
User=webapp
WorkingDirectory=/var/app/current
EnvironmentFile=/opt/elasticbeanstalk/deployment/env
ExecStart=@COMMAND@
Restart=always
StandardOutput=append:/var/log/web.stdout.log
"""
# Beanstalk's own program; this one needs boto3, which a fleet's instances have.
SQSD_SERVICE = """\
[Service]
Type=simple
WorkingDirectory=@ROOT@
EnvironmentFile=/opt/elasticbeanstalk/deployment/env
ExecStart=@VENV@/bin/python -m scripts.rehearsal.sqsd @CONFIG@
Restart=always
"""
NGINX_SERVICE = """\
[Service]
Type=simple
ExecStart=/bin/sh -c "exec nginx -g 'daemon off;'"
ExecReload=nginx -s reload
Restart=always
"""
GET_CONFIG = """\
#!/bin/sh
# get-config environment [-k NAME]
exec @PYTHON@ -c 'import json, sys
properties = json.load(open("/opt/elasticbeanstalk/deployment/properties.json"))
if not sys.argv[1]:
    print(json.dumps(properties))
elif sys.argv[1] in properties:
    print(properties[sys.argv[1]])
else:
    sys.exit(1)' "${3:-}"
"""
# The package that the EFS mount needs is the only one that is more than a name here.
YUM = """\
#!/bin/sh
for package; do
  case $package in amazon-efs-utils)
    mkdir -p /etc/amazon/efs /var/log/amazon/efs
    printf '[mount]\\noptimize_readahead = false\\n' > /etc/amazon/efs/efs-utils.conf
    printf '#!/bin/sh\\nexec @PYTHON@ @HERE@/mount_efs.py "$@"\\n' > /sbin/mount.efs
    chmod 755 /sbin/mount.efs ;;
  esac
done
"""


def write_skeleton(layer: Path) -> None:
    """Fill `layer`, an empty folder."""
    files = {
        "/etc/nginx/nginx.conf": NGINX_CONF,
        "/etc/nginx/conf.d/elasticbeanstalk/00_application.conf": APPLICATION_CONF,
        "/etc/systemd/system/nginx.service": NGINX_SERVICE,
        "/etc/fstab": "# no swap, no other disks\n",
        "/etc/pip.conf": "",
        "/usr/bin/yum": YUM,
        "/usr/bin/systemctl": '#!/bin/sh\nexec @PYTHON@ @HERE@/init.py "$@"\n',
        "/opt/elasticbeanstalk/bin/get-config": GET_CONFIG,
        "/opt/elasticbeanstalk/deployment/properties.json": "{}",
    }
    for name, text in files.items():
        path = layer / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@PYTHON@", str(PYTHON)).replace("@HERE@", str(HERE)))
        if text.startswith("#!"):
            path.chmod(0o755)
    for name, line in {"passwd": "{0}:x:{1}:{1}::/home/{0}:/bin/bash\n", "group": "{0}:x:{1}:\n"}.items():
        known = [entry for entry in Path("/etc", name).read_text().splitlines() if entry.split(":")[0] not in USERS]
        added = "".join(line.format(user, number) for user, number in USERS.items())
        (layer / "etc" / name).write_text("\n".join(known) + "\n" + added)
    for folder in ("var/app", "var/log/nginx", "home/webapp"):
        (layer / folder).mkdir(parents=True, exist_ok=True)
