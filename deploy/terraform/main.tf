# One node in each AZ at a fixed address, and the VPC's DHCP options with these addresses.
#
# `terraform apply` does not replace existing nodes for a new image, package or user-data, because it would replace all of them at once.
# Replace one node after the other, when the previous one answers again:
#
#   terraform apply -replace='aws_instance.node["use1-az1"]'
#   dig +short @10.2.0.53 whoami.zonal TXT   # answers some minutes later

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_security_group" "zonal" {
  name        = "zonal"
  description = "DNS for the networks of the manifest"
  vpc_id      = var.vpc_id

  # Replies to DNS over UDP need no rule, because security groups track connections. Tracking has a limit at high rates. If everybody may
  # ask, rules for 0.0.0.0/0 in both directions are not tracked.
  dynamic "ingress" {
    for_each = ["udp", "tcp"]
    content {
      description = "DNS"
      protocol    = ingress.value
      from_port   = 53
      to_port     = 53
      cidr_blocks = var.client_cidr_blocks
    }
  }

  dynamic "ingress" {
    for_each = length(var.monitoring_cidr_blocks) > 0 ? ["metrics"] : []
    content {
      description = ingress.value
      protocol    = "tcp"
      from_port   = 9153
      to_port     = 9153
      cidr_blocks = var.monitoring_cidr_blocks
    }
  }

  egress {
    description = "forwarding, and the control plane"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

# The address belongs to the interface, so it survives a replaced instance.
resource "aws_network_interface" "node" {
  for_each = var.nodes

  subnet_id       = each.value.subnet_id
  private_ips     = [each.value.private_ip]
  security_groups = [aws_security_group.zonal.id]
  tags            = { Name = "zonal-${each.key}" }
}

resource "aws_instance" "node" {
  for_each = var.nodes

  ami                  = var.ami_id
  instance_type        = var.instance_type
  iam_instance_profile = var.instance_profile
  user_data = templatefile("${path.module}/user-data.sh", {
    private_ip              = each.value.private_ip
    package_uri             = var.package_uri
    manifest_uri            = var.manifest_uri
    cookie_secret_parameter = var.cookie_secret_parameter
  })

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.node[each.key].id
  }

  metadata_options {
    http_tokens = "required"
  }

  tags = { Name = "zonal-${each.key}" }

  # A change of these would stop or replace all nodes at once. A node replaced by `-replace` gets them.
  lifecycle {
    ignore_changes = [ami, instance_type, user_data]
  }
}

# Starts an instance on other hardware after a hardware failure, with the same address.
resource "aws_cloudwatch_metric_alarm" "machine" {
  for_each = var.nodes

  alarm_name          = "zonal-${each.key}-machine"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2
  alarm_actions       = concat(["arn:aws:automate:${data.aws_region.current.name}:ec2:recover"], var.alarm_actions)
}

# Reboots an instance that hangs. systemd restarts a zonal that has ended.
resource "aws_cloudwatch_metric_alarm" "system" {
  for_each = var.nodes

  alarm_name          = "zonal-${each.key}-system"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_Instance"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 3
  alarm_actions       = concat(["arn:aws:automate:${data.aws_region.current.name}:ec2:reboot"], var.alarm_actions)
}

data "aws_region" "current" {}

# Each node reports once a minute whether it answers (user-data.sh). A node that reports a failure is rebooted. A node that reports
# nothing is not: it may be starting, or may not reach CloudWatch.
resource "aws_cloudwatch_metric_alarm" "answers" {
  for_each = var.nodes

  alarm_name          = "zonal-${each.key}-answers"
  namespace           = "zonal"
  metric_name         = "Answers"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = concat(["arn:aws:automate:${data.aws_region.current.name}:ec2:reboot"], var.alarm_actions)
}

# Notifies when a node reports nothing.
resource "aws_cloudwatch_metric_alarm" "silent" {
  for_each = var.nodes

  alarm_name          = "zonal-${each.key}-silent"
  namespace           = "zonal"
  metric_name         = "Answers"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "SampleCount"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_actions
}

# All clients of the VPC get the same addresses by DHCP: a VPC has one set of options. AmazonProvidedDNS must not be one of them: stub
# resolvers would ask it too, and get public addresses.
resource "aws_vpc_dhcp_options" "zonal" {
  domain_name_servers = [for node in values(var.nodes) : node.private_ip]
  tags                = { Name = "zonal" }
}

resource "aws_vpc_dhcp_options_association" "zonal" {
  vpc_id          = var.vpc_id
  dhcp_options_id = aws_vpc_dhcp_options.zonal.id

  # Only after the nodes exist.
  depends_on = [aws_instance.node]
}

output "addresses" {
  description = "The addresses to ask, by AZ ID."
  value       = { for az, node in var.nodes : az => node.private_ip }
}
