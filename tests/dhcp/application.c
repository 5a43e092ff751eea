/* An application: prints the addresses of a name, or the error that its C library has for it.
   Usage: application inet|inet6|unspec NAME */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const struct {
    int code;
    const char *name;
} errors[] = {
    {EAI_AGAIN, "EAI_AGAIN"},   {EAI_FAIL, "EAI_FAIL"},     {EAI_NONAME, "EAI_NONAME"},
    {EAI_SYSTEM, "EAI_SYSTEM"}, {EAI_MEMORY, "EAI_MEMORY"},
#ifdef EAI_NODATA
    {EAI_NODATA, "EAI_NODATA"},
#endif
};

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *one;
    hints.ai_family = !strcmp(argv[1], "inet") ? AF_INET : !strcmp(argv[1], "inet6") ? AF_INET6 : AF_UNSPEC;
    int error = getaddrinfo(argv[2], NULL, &hints, &found);
    for (size_t i = 0; error && i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == error) return puts(errors[i].name) < 0;
    if (error) return printf("error %d\n", error) < 0;
    for (one = found; one; one = one->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *address = one->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                        : (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
        puts(inet_ntop(one->ai_family, address, text, sizeof text));
    }
    freeaddrinfo(found);
    return 0;
}
