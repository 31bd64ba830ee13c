// See raw.h.
#include "raw.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { RAW_LINE_MAX = 16384, RAW_CONNECTIONS_MAX = 8, RAW_UPLOAD = 700 };

static struct {
    char line[RAW_LINE_MAX];
    size_t size;
    uint32_t skip;                                  // bytes of a Telnet command to come
    int code;                                       // of a reply of several lines
    bool head;                                      // an HTTP head goes on
    bool body;                                      // it has ended: what follows is not looked at
    struct client connections[RAW_CONNECTIONS_MAX]; // for FTP's data
    uint32_t connections_count;
} raw;

// --- FTP's data connections ----------------------------------------------------------------------

static const char *raw_data_output(struct client *client, size_t *ret_size)
{
    *ret_size = RAW_UPLOAD - client->sent;
    return client_pattern(9, client->sent);
}

static bool raw_data_sent_all(const struct client *client)
{
    return client->sent == RAW_UPLOAD;
}

static void raw_data_input(struct client *client, const char *data, size_t size)
{
    (void)client;
    (void)data;
    (void)size;
}

static const struct client_role raw_data_role = { .output = raw_data_output,
                                                  .sent_all = raw_data_sent_all,
                                                  .input = raw_data_input };

static void raw_connect(const struct client *control, unsigned port)
{
    if (raw.connections_count == RAW_CONNECTIONS_MAX || !port)
        return;
    struct client *client = &raw.connections[raw.connections_count++];
    *client = (struct client){ .run = control->run,
                               .role = &raw_data_role,
                               .address = control->address,
                               .index = 100 + raw.connections_count,
                               .helper = true };
    client->address.in.sin_port = htons((uint16_t)port);
    client_draw(client, RAW_UPLOAD);
    client_start(client, client_scaled(client, 16));
}

// A line of a reply (RFC 959, 4.2).
static void raw_ftp_line(const struct client *client)
{
    const char *line = raw.line;
    unsigned numbers[2];
    bool coded = raw.size > 3 && strspn(line, "0123456789") >= 3;
    int code = coded ? atoi((const char[]){ line[0], line[1], line[2], 0 }) : 0;
    if (raw.code && (code != raw.code || line[3] != ' '))
        return;
    if (code < 100 || code > 599 || (line[3] != ' ' && line[3] != '-'))
        run_complain(client->run, "'%.60s' is no reply", line);
    raw.code = line[3] == '-' ? code : 0;
    const char *at = strrchr(line, '(');
    if (code == 229 && at && sscanf(at, "(|||%u|)", numbers) == 1)
        raw_connect(client, numbers[0]);
    if (code == 227 && at && sscanf(at, "(%*u,%*u,%*u,%*u,%u,%u)", &numbers[0], &numbers[1]) == 2)
        raw_connect(client, numbers[0] << 8 | numbers[1]);
}

// --- HTTP ----------------------------------------------------------------------------------------

// The first answer's head. Those behind it cannot be told from content without the requests.
static void raw_http_line(const struct client *client)
{
    const char *line = raw.line, *colon = strchr(line, ':');
    if (!raw.size) {
        raw.body = raw.head;
        raw.head = false;
        return;
    }
    if (!raw.head) {
        if (strncmp(line, "HTTP/1.1 ", 9) != 0 || line[9] < '1' || line[9] > '5' ||
            !isdigit((unsigned char)line[10]) || !isdigit((unsigned char)line[11]) ||
            line[12] != ' ')
            run_complain(client->run, "'%.60s' is no status line", line);
    } else if (!colon || colon == line || colon[1] != ' ') {
        run_complain(client->run, "'%.60s' is no field", line);
    }
    raw.head = true;
}

// --- The client ----------------------------------------------------------------------------------

static const char *raw_output(struct client *client, size_t *ret_size)
{
    *ret_size = client->run->raw_size - client->sent;
    return (const char *)client->run->raw + client->sent;
}

static bool raw_sent_all(const struct client *client)
{
    return client->sent == client->run->raw_size;
}

// IAC and two bytes are a refusal, IAC twice is a byte of a name (RFC 854).
static bool raw_is_text(char byte)
{
    bool escaped = raw.skip == 2 && byte == '\xff';
    if (!raw.skip && byte != '\xff')
        return true;
    raw.skip = escaped ? 0 : raw.skip ? raw.skip - 1 : 2;
    return escaped;
}

static void raw_input(struct client *client, const char *data, size_t size)
{
    bool http = client->run->protocol == &run_http;
    if (client->run->protocol == &run_echo)
        return;
    for (size_t i = 0; i < size && !(http && raw.body) && !client->run->complaint[0]; i++) {
        if (!http && !raw_is_text(data[i]))
            continue;
        if (data[i] != '\n') {
            if (raw.size == sizeof raw.line - 1)
                run_complain(client->run, "a line without an end");
            else
                raw.line[raw.size++] = data[i];
            continue;
        }
        if (!raw.size || raw.line[raw.size - 1] != '\r')
            run_complain(client->run, "a line that does not end with CR LF");
        else
            raw.line[--raw.size] = '\0';
        (http ? raw_http_line : raw_ftp_line)(client);
        raw.size = 0;
    }
}

// Data connections end with it.
static void raw_over(struct client *client)
{
    (void)client;
    for (uint32_t i = 0; i < raw.connections_count; i++)
        client_end_now(&raw.connections[i]);
}

static const struct client_role raw_role = {
    .output = raw_output, .sent_all = raw_sent_all, .input = raw_input, .over = raw_over
};

void run_raw_draw(struct client *client)
{
    raw.size = raw.skip = 0;
    raw.code = 0;
    raw.head = raw.body = false;
    raw.connections_count = 0;
    client->role = &raw_role;
    client_draw(client, client->run->raw_size + 1000);
    client->end = CLIENT_ENDS;
}

// Whatever was asked, only the served folder has changed.
void run_raw_check(struct run *run)
{
    static const char *const known[] = { "access.log", "etc", "outside",
                                         "site",       "srv", "transfers.log" };
    const char *name, *data;
    size_t size;
    for (uint32_t at = 0; (name = sim_file_next(run->sim, ".", &at));) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], name) != 0)
            i++;
        if (i == sizeof known / sizeof *known)
            run_complain(run, "%s was made outside of the root", name);
    }
    if (sim_file_content(run->sim, "outside", &data, &size) &&
        (size != 100 || memcmp(data, client_pattern(3, 0), size) != 0))
        run_complain(run, "a file outside of the root was changed");
}
