// The AWS SDK for JavaScript, whose parsers refuse what does not follow the model. The argument is the URL.
import { createRequire } from "node:module";

const require = createRequire(process.env.MODULES + "/");
const { EC2Client, ...ec2 } = require("@aws-sdk/client-ec2");
const { Route53Client, ...route53 } = require("@aws-sdk/client-route-53");
const { Route53ResolverClient, ...resolver } = require("@aws-sdk/client-route53resolver");

const settings = {
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "111122223333", secretAccessKey: "any" },
  maxAttempts: 1,
};
const clients = { ec2: new EC2Client(settings), route53: new Route53Client(settings), resolver: new Route53ResolverClient(settings) };
const commands = { ec2, route53, resolver };
const call = (service, name, input = {}) => clients[service].send(new commands[service][`${name}Command`](input));

const vpc = (await call("ec2", "CreateVpc", { CidrBlock: "10.3.0.0/16" })).Vpc;
for (const attribute of ["EnableDnsHostnames", "EnableDnsSupport"]) {
  await call("ec2", "ModifyVpcAttribute", { VpcId: vpc.VpcId, [attribute]: { Value: true } });
}
const subnet = (await call("ec2", "CreateSubnet", { VpcId: vpc.VpcId, CidrBlock: "10.3.1.0/24", AvailabilityZone: "us-east-1a" })).Subnet;
const endpoint = (
  await call("ec2", "CreateVpcEndpoint", {
    VpcId: vpc.VpcId,
    ServiceName: "com.amazonaws.us-east-1.sqs",
    VpcEndpointType: "Interface",
    SubnetIds: [subnet.SubnetId],
    PrivateDnsEnabled: true,
  })
).VpcEndpoint;
const zone = (
  await call("route53", "CreateHostedZone", {
    Name: "sdk.example",
    CallerReference: "1",
    VPC: { VPCId: vpc.VpcId, VPCRegion: "us-east-1" },
  })
).HostedZone;
const set = { Name: "www.sdk.example", Type: "A", TTL: 60, ResourceRecords: [{ Value: "10.3.1.9" }] };
const change = (
  await call("route53", "ChangeResourceRecordSets", {
    HostedZoneId: zone.Id,
    ChangeBatch: { Changes: [{ Action: "UPSERT", ResourceRecordSet: set }] },
  })
).ChangeInfo;
const rule = (
  await call("resolver", "CreateResolverRule", { CreatorRequestId: "1", RuleType: "SYSTEM", DomainName: "sys.example" })
).ResolverRule;
const rules = (await call("resolver", "ListResolverRules")).ResolverRules.filter((found) => found.Id === rule.Id);
const endpoints = (await call("ec2", "DescribeVpcEndpoints", { VpcEndpointIds: [endpoint.VpcEndpointId] })).VpcEndpoints;
const sets = (await call("route53", "ListResourceRecordSets", { HostedZoneId: zone.Id })).ResourceRecordSets;
const errors = [];
for (const [service, name, input] of [
  ["ec2", "DeleteVpc", { VpcId: "vpc-0123456789abcdef0" }],
  ["route53", "GetHostedZone", { Id: "Z0NONE" }],
  ["resolver", "GetResolverRule", { ResolverRuleId: "rslvr-rr-0" }],
]) {
  await call(service, name, input).catch((error) => errors.push(error.name));
}
console.log(
  JSON.stringify({
    created: endpoint.CreationTimestamp instanceof Date && change.SubmittedAt instanceof Date,
    status: [change.Status, rule.Status, endpoints[0].State.toLowerCase()],
    found: [rules.length, endpoints.length, sets.map((found) => found.Type).sort()],
    errors,
  }),
);
