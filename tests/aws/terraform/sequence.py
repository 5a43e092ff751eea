# The calls of Terraform's AWS provider for one resource, in its order: create, wait, read twice, change, read, import by identifier,
# delete, and read until the resource is gone. The provider fails if a status is neither pending nor the target, and if a member is
# missing. It shows a change that nobody made ("drift") if a second read differs, if a tag is missing, and if a member is not what the
# configuration or the provider's default says. An import is a read by identifier.

import socket
import threading
import time

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

MAX_DELAY_SECONDS = 0.05
done = []


def ask(name, rtype="A", source="127.0.0.1"):
    """The data of the records of this type in an answer; its status, if it has none."""
    query = dns.message.make_query(name, rtype)
    reply = dns.query.udp(query, "127.0.0.1", port=int(sys.argv[2]), source=source, timeout=10)
    records = sorted(record.to_text() for rrset in reply.answer for record in rrset if dns.rdatatype.to_text(rrset.rdtype) == rtype)
    return records or dns.rcode.to_text(reply.rcode())


def sees(name, questions, wanted, after):
    """Checks the answers after a call: pairs of the arguments of `ask` and of the answer."""
    begin = time.monotonic()
    for question, expected in zip(questions, wanted):
        found = ask(*question)
        elapsed = time.monotonic() - begin
        assert found == expected, f"{name}: after {after}, {question} is answered with {found}, not {expected}"
        assert elapsed < MAX_DELAY_SECONDS, f"{name}: after {after}, the answer came after {elapsed} s"
        begin = time.monotonic()


def name_server(address):
    """The port of a name server that answers each query with an address."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve():
        while True:
            query, client = server.recvfrom(4096)
            reply = dns.message.make_response(dns.message.from_wire(query))
            reply.flags |= dns.flags.AA
            question = reply.question[0]
            if question.rdtype == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", address))
            server.sendto(reply.to_wire(), client)

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def waits(read, member, pending, target):
    """Reads until the status is the target."""
    for _ in range(10):
        status = read()
        for part in member.split("."):
            status = status[part]
        if status == target:
            return
        assert status in pending, f"{member}: unexpected state {status}, wanted {target}"
    raise AssertionError(f"{member} does not become {target}")


def is_gone(read, codes):
    found = refused(read)
    assert found[0] in codes, found


def not_found():
    raise ClientError({"Error": {"Code": "NotFound"}}, "List")


def only(items):
    """The item of a list that must have one. The provider takes an empty list for a resource that is gone."""
    assert len(items) < 2, items
    return items[0] if items else not_found()


def as_set(value):
    """A list of texts as the provider compares it: without an order."""
    return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def expect(name, found, expected):
    for member, value in expected.items():
        assert as_set(found.get(member)) == as_set(value), f"{name}: {member} is {found.get(member)}, not {value}"


class Tags:
    """How the provider reads and changes the tags of a resource. All have the same tags when they are made."""

    FIRST = {"Name": "tf", "made-by": "Terraform", "empty": ""}

    def __init__(self, read, add, remove):
        self.read, self.add, self.remove = read, add, remove

    def check(self, name, made, read):
        def has(wanted):
            found = self.read(made, read(made))
            assert found == wanted, f"{name}: the tags are {found}, not {wanted}"

        first = read(made)
        has(Tags.FIRST)
        self.remove(made, first, ["empty"])
        self.add(made, first, {"made-by": "somebody else", "new": "x=y z"})
        has({"Name": "tf", "made-by": "somebody else", "new": "x=y z"})
        self.add(made, first, {"made-by": "Terraform", "empty": ""})
        self.remove(made, first, ["new"])
        has(Tags.FIRST)


def pairs(tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def mapping(listed):
    return {tag["Key"]: tag["Value"] for tag in listed}


def sequence(name, create, read, fields, delete, gone, status=None, updates=(), tags=None, defaults=None, questions=(), answers=()):
    """Runs the calls for one resource. `updates` are pairs of a call and of the members that it changes. `defaults` are members with
    the values that the provider compares. `questions` are arguments of `ask`, and `answers` what they are answered with before, after the create,
    after each update, and after the delete. Without `gone`, the delete leaves the resource."""
    answers = list(answers)
    assert not answers or len(answers) == len(updates) + 3, f"{name}: {len(answers)} answers"
    now_sees = lambda after: answers and sees(name, questions, answers.pop(0), after)
    now_sees("nothing")
    made = create()
    now_sees("the create")
    for wait in status or []:
        waits(lambda: read(made), *wait)
    first = read(made)
    for field in fields:
        assert field in first, f"{name}: {field} is missing in {first}"
    expect(name, first, defaults or {})
    assert read(made) == first, f"{name}: a second read differs"
    if tags:
        tags.check(name, made, read)
        assert read(made) == first, f"{name}: changes of tags change other members"
    for number, (change, expected) in enumerate(updates):
        change(made)
        now_sees(f"update {number}")
        for wait in status or []:
            waits(lambda: read(made), *wait)
        now = read(made)
        expect(name, now, expected)
        assert read(made) == now, f"{name}: a second read differs after update {number}"
    delete(made)
    now_sees("the delete")
    if gone:
        is_gone(lambda: read(made), gone)
    done.append(name)
