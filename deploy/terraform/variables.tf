variable "vpc_id" {
  description = "The VPC that the nodes are in, and that gets the DHCP options."
  type        = string
}

variable "nodes" {
  description = "One node for each AZ, by AZ ID: its subnet, and its address there, which is one of the manifest's `resolver_addresses` or `ip_addresses`."
  type = map(object({
    subnet_id  = string
    private_ip = string
  }))
  # For example:
  # {
  #   use1-az1 = { subnet_id = "subnet-0a", private_ip = "10.2.0.53" }
  #   use1-az2 = { subnet_id = "subnet-0b", private_ip = "10.2.16.53" }
  # }

  validation {
    condition     = length(var.nodes) >= 2
    error_message = "At least two AZs: a resolver that is alone is a single point of failure."
  }

  validation {
    condition     = length(var.nodes) <= 4
    error_message = "At most four nodes: DHCP options take no more name servers."
  }
}

variable "client_cidr_blocks" {
  description = "Who may ask: the networks of the manifest, on-premises ones too."
  type        = list(string)
}

variable "monitoring_cidr_blocks" {
  description = "Who may read /metrics and /ready, at port 9153."
  type        = list(string)
  default     = []
}

variable "ami_id" {
  description = "Debian 12 or later, or Ubuntu 22.04 or later, with the AWS CLI."
  type        = string
}

variable "instance_type" {
  type    = string
  default = "c7i.large"
}

variable "instance_profile" {
  description = "The name of an instance profile that may `s3:GetObject` the package and the manifest, `s3:ListBucket` the manifest's bucket, `ssm:GetParameter` the cookie secret (and `kms:Decrypt`, where its key is your own), and `cloudwatch:PutMetricData`."
  type        = string
}

variable "alarm_actions" {
  description = "Who is told of alarms, as of SNS topics' ARNs."
  type        = list(string)
  default     = []
}

variable "package_uri" {
  description = "Where the Debian package is: s3://…/zonal_…_amd64.deb."
  type        = string
}

variable "manifest_uri" {
  description = "Where the manifest's directory is: s3://…/zones. Nodes take over changes within a minute."
  type        = string
}

variable "cookie_secret_parameter" {
  description = "The name of the SecureString parameter of SSM with the cookie secret that the nodes share: 32 hexadecimal digits."
  type        = string
}

variable "resolver_subnet_ids" {
  description = "Subnets, in at least two AZs, of the Route 53 Resolver outbound endpoint for VPCs that keep AmazonProvidedDNS. Empty: none is made."
  type        = list(string)
  default     = []
}

variable "forwarded_domains" {
  description = "The names for which VPCs that keep AmazonProvidedDNS are sent to zonal."
  type        = set(string)
  default     = []
}

variable "forwarding_vpc_ids" {
  description = "The VPCs that keep AmazonProvidedDNS, and get these names from zonal. Not the one that the nodes are in."
  type        = set(string)
  default     = []
}
