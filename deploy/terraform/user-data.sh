#!/bin/bash
# Runs when a node starts for the first time. Terraform fills in the values in braces.
set -euo pipefail

# The node itself asks the Amazon-provided DNS server, whatever DHCP says, so that it starts without zonal.
mkdir -p /etc/systemd/resolved.conf.d
printf '[Resolve]\nDNS=169.254.169.253\nDomains=~.\n' >/etc/systemd/resolved.conf.d/node.conf
systemctl try-restart systemd-resolved

aws s3 cp "${package_uri}" /tmp/zonal.deb
apt-get install -y /tmp/zonal.deb
systemctl stop zonal

# Serves the network, in place of the demo.
mkdir -p /etc/zonal/zones
aws s3 sync --delete "${manifest_uri}" /etc/zonal/zones
aws ssm get-parameter --name "${cookie_secret_parameter}" --with-decryption --query Parameter.Value --output text >/etc/zonal/cookie.secret
chmod 600 /etc/zonal/cookie.secret
cat >/etc/zonal/zonal.yaml <<'END'
listen: [{address: "${private_ip}:53"}]   # not 0.0.0.0: systemd-resolved uses port 53 of loopback addresses
control_plane: {directory: zones}
state_directory: /var/lib/zonal
internet_resolver: {forward_to: [169.254.169.253]}   # the Amazon-provided DNS server
cookie_secret_file: /run/credentials/zonal.service/cookie.secret
admin: {address: "0.0.0.0:9153"}
END
mkdir -p /etc/systemd/system/zonal.service.d
cat >/etc/systemd/system/zonal.service.d/cookie.conf <<'END'
[Service]
LoadCredential=cookie.secret:/etc/zonal/cookie.secret
END

# Once a minute: report to the alarm whether zonal answers, then fetch changes of the manifest.
cat >/usr/local/sbin/zonal-minute <<'END'
#!/bin/bash
set -u
metadata=http://169.254.169.254/latest
token=$(curl -fs --max-time 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
instance=$(curl -fs --max-time 3 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/instance-id")
answers=0
curl -fs -o /dev/null --max-time 3 http://127.0.0.1:9153/ready && answers=1
aws cloudwatch put-metric-data --namespace zonal --metric-name Answers --dimensions "InstanceId=$instance" --value "$answers"
aws s3 sync --delete --only-show-errors "${manifest_uri}" /etc/zonal/zones
END
chmod 755 /usr/local/sbin/zonal-minute
cat >/etc/systemd/system/zonal-minute.service <<'END'
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/zonal-minute
END
cat >/etc/systemd/system/zonal-minute.timer <<'END'
[Timer]
OnBootSec=1min
OnUnitActiveSec=1min
AccuracySec=1s
[Install]
WantedBy=timers.target
END
systemctl daemon-reload
systemctl enable --now zonal zonal-minute.timer
