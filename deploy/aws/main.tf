# Terraform's AWS provider, with zonal in the place of AWS.
#
#   AWS_ACCESS_KEY_ID=111122223333 AWS_SECRET_ACCESS_KEY=any terraform apply
#
# On loopback, without `admin.access_keys_file`, the access key is the account. Otherwise it is a key of `zonal key new`.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

variable "zonal" {
  description = "zonal's admin address"
  type        = string
  default     = "http://127.0.0.1:9153"
}

provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true

  endpoints {
    ec2             = var.zonal
    route53         = var.zonal
    route53profiles = var.zonal
    route53resolver = var.zonal
    sts             = var.zonal
  }
}

resource "aws_vpc" "app" {
  cidr_block           = "10.1.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
}

resource "aws_subnet" "app" {
  for_each = { "us-east-1a" = "10.1.0.0/24", "us-east-1b" = "10.1.1.0/24" }

  vpc_id            = aws_vpc.app.id
  availability_zone = each.key
  cidr_block        = each.value
}

resource "aws_vpc_endpoint" "sqs" {
  vpc_id              = aws_vpc.app.id
  service_name        = "com.amazonaws.us-east-1.sqs"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.app : subnet.id]
}

resource "aws_route53_zone" "corp" {
  name = "corp.example"

  vpc {
    vpc_id = aws_vpc.app.id
  }
}

resource "aws_route53_record" "www" {
  zone_id = aws_route53_zone.corp.zone_id
  name    = "www"
  type    = "A"
  ttl     = 60
  records = ["10.1.0.80"]
}
