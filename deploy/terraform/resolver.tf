# For VPCs that keep AmazonProvidedDNS: Route 53 Resolver forwards names to zonal from its endpoint's addresses. So all clients of
# these VPCs get the endpoint interfaces of the AZs of these addresses.
#
# Do not add the nodes' own VPC: the nodes forward other names to AmazonProvidedDNS there, which would send them back.

locals {
  resolver = length(var.resolver_subnet_ids) > 0 ? 1 : 0
  associations = {
    for pair in setproduct(var.forwarded_domains, var.forwarding_vpc_ids) :
    "${pair[0]} ${pair[1]}" => { domain = pair[0], vpc_id = pair[1] }
  }
}

resource "aws_security_group" "resolver" {
  count = local.resolver

  name        = "zonal-resolver"
  description = "Route 53 Resolver asks zonal"
  vpc_id      = var.vpc_id

  dynamic "egress" {
    for_each = ["udp", "tcp"]
    content {
      description = "DNS"
      protocol    = egress.value
      from_port   = 53
      to_port     = 53
      cidr_blocks = [for node in values(var.nodes) : "${node.private_ip}/32"]
    }
  }
}

resource "aws_route53_resolver_endpoint" "outbound" {
  count = local.resolver

  name               = "zonal"
  direction          = "OUTBOUND"
  security_group_ids = [aws_security_group.resolver[0].id]

  dynamic "ip_address" {
    for_each = var.resolver_subnet_ids
    content {
      subnet_id = ip_address.value
    }
  }
}

resource "aws_route53_resolver_rule" "zonal" {
  for_each = local.resolver == 1 ? var.forwarded_domains : []

  name                 = "zonal-${replace(trimsuffix(each.value, "."), ".", "-")}"
  domain_name          = each.value
  rule_type            = "FORWARD"
  resolver_endpoint_id = aws_route53_resolver_endpoint.outbound[0].id

  # All nodes: Resolver asks another one when one fails.
  dynamic "target_ip" {
    for_each = var.nodes
    content {
      ip = target_ip.value.private_ip
    }
  }
}

resource "aws_route53_resolver_rule_association" "zonal" {
  for_each = local.resolver == 1 ? local.associations : {}

  resolver_rule_id = aws_route53_resolver_rule.zonal[each.value.domain].id
  vpc_id           = each.value.vpc_id

  lifecycle {
    precondition {
      condition     = each.value.vpc_id != var.vpc_id
      error_message = "The nodes are in this VPC, and forward to its Amazon-provided DNS server: with a rule to them, names would go round in a circle."
    }
  }
}
