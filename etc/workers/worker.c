/* A worker of a superd pool, see superd-pool(7): one connection at a time. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNEL 3
#define LONGEST 4096

static int say(const char *line)
{
    return send(CHANNEL, line, strlen(line), MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The next packet, as a string, and its connection, or -1. Gives 0 when superd is gone. */
static int receive(char *line, int *connection)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = { line, LONGEST - 1 };
    struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1,
                              .msg_control = control.room, .msg_controllen = sizeof control.room };
    struct cmsghdr *part;
    ssize_t length;

    do
        length = recvmsg(CHANNEL, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length <= 0)
        return 0;
    line[length] = '\0';
    *connection = -1;
    part = CMSG_FIRSTHDR(&message);
    if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
        memcpy(connection, CMSG_DATA(part), sizeof *connection);
    return 1;
}

/* The value of a field of `CONN id=7 service=app client=…`, copied; empty if it is not there. */
static void field(const char *line, const char *name, char *value, size_t size)
{
    size_t length = strlen(name);
    const char *at;

    value[0] = '\0';
    for (at = strchr(line, ' '); at; at = strchr(at + 1, ' '))
        if (strncmp(at + 1, name, length) == 0 && at[1 + length] == '=') {
            at += length + 2;
            length = strcspn(at, " ");
            if (length >= size)
                length = size - 1;
            memcpy(value, at, length);
            value[length] = '\0';
            return;
        }
}

static void serve(int connection, const char *line)
{
    char question[LONGEST], client[128], answer[256];
    int length;

    if (recv(connection, question, sizeof question, 0) < 0)
        return;
    field(line, "client", client, sizeof client);
    length = snprintf(answer, sizeof answer, "hello %s\n", client[0] ? client : "you");
    send(connection, answer, length, MSG_NOSIGNAL);
}

int main(void)
{
    char line[LONGEST], id[32], word[64];
    int connection;

    if (say("READY") != 0)
        return 1;
    while (receive(line, &connection)) {
        if (strncmp(line, "DRAIN", 5) == 0)
            break;
        if (strncmp(line, "CONN ", 5) != 0 || connection < 0)
            continue;
        field(line, "id", id, sizeof id);
        snprintf(word, sizeof word, "TAKE %s", id);
        say(word);
        serve(connection, line);
        close(connection);
        snprintf(word, sizeof word, "DONE %s", id);
        if (say(word) != 0)
            break;
    }
    return 0;
}
