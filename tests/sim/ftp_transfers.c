// Transfers: a data connection, the command, perhaps an ABOR, and what must have become of the
// bytes.
#include <stdlib.h>
#include <string.h>

#include "ftp_script.h"

enum transfer_stage {
    STAGE_TYPE,
    STAGE_PASSIVE,
    STAGE_RESTART,
    STAGE_BEGIN,   // the transfer's command was said
    STAGE_END,     // 150 came
    STAGE_ABORTED, // the transfer is over, and ABOR gets a reply of its own
    STAGE_LAST,    // the data connection ends
};

static struct ftp_script *transfers_script(const struct client *client)
{
    return client->script;
}

static bool transfers_uploads(const struct ftp_sim_transfer *transfer)
{
    return transfer->kind == FTP_SIM_STORE || transfer->kind == FTP_SIM_APPEND;
}

// --- The data connection -------------------------------------------------------------------------

static const char *data_output(struct client *client, size_t *ret_size)
{
    const struct ftp_sim_transfer *transfer = &transfers_script(client)->transfer;
    *ret_size = transfers_uploads(transfer) ? transfer->wire_size - client->sent : 0;
    return transfer->wire + client->sent;
}

// Who downloads keeps its side open to the end.
static bool data_sent_all(const struct client *client)
{
    const struct ftp_sim_transfer *transfer = &transfers_script(client)->transfer;
    return transfers_uploads(transfer) && client->sent == transfer->wire_size;
}

static void data_input(struct client *client, const char *data, size_t size)
{
    struct ftp_sim_transfer *transfer = &transfers_script(client)->transfer;
    uint64_t at = client->received - size;
    switch (transfer->kind) {
    case FTP_SIM_RETRIEVE:
        transfer->altered |=
            client->received > transfer->wire_size || memcmp(transfer->wire + at, data, size) != 0;
        break;
    case FTP_SIM_SHARED:
        transfer->altered |= client->received > transfer->wire_size ||
                             memcmp(client_pattern(1, transfer->offset + at), data, size) != 0;
        break;
    case FTP_SIM_NAMES:
    case FTP_SIM_FACTS:
        if (client->received < sizeof transfer->listing)
            memcpy(transfer->listing + at, data, size);
        transfer->altered |= client->received >= sizeof transfer->listing;
        break;
    case FTP_SIM_STORE:
    case FTP_SIM_APPEND:
        transfer->altered = true; // nothing is sent there
        break;
    }
}

static void transfers_settle(struct ftp_script *script);

static void data_over(struct client *client)
{
    transfers_settle(transfers_script(client));
}

const struct client_role ftp_data_role = {
    .output = data_output, .sent_all = data_sent_all, .input = data_input, .over = data_over
};

enum { TRANSFERS_STILL_NS = 10000000 };

static void transfers_connect(struct ftp_script *script, uint16_t port)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    struct client *client = &transfer->client;
    *client = (struct client){ .run = script->world->run,
                               .role = &ftp_data_role,
                               .script = script,
                               .address = script->control->address,
                               .index = 100 + script->control->index,
                               .helper = true };
    client->address.in.sin_port = htons(port);
    transfer->used = true;
    client_draw(client, transfer->wire_size + 100);
    // Most are well behaved.
    if (client_random(client, 2))
        client->end = CLIENT_ENDS;
    // Some stand still for as long as an impatient server waits for them.
    if (script->world->impatient && client_random(client, 4) == 0)
        client->step_max_ns = TRANSFERS_STILL_NS;
    if (transfers_uploads(transfer) && client->ends_after > transfer->wire_size)
        client->ends_after = transfer->wire_size;
    // It may come when ABOR has been said, or not before; see transfers_come_late().
    if (!transfer->aborts || client_random(client, 2))
        client_start(client, client_scaled(client, transfer->aborts ? 20 : 16));
}

// "(h1,h2,h3,h4,p1,p2)" or "(|||port|)".
static uint16_t transfers_port(const char *line)
{
    const char *at = strchr(line, '(');
    unsigned numbers[6];
    if (at && sscanf(at, "(%u,%u,%u,%u,%u,%u)", &numbers[0], &numbers[1], &numbers[2], &numbers[3],
                     &numbers[4], &numbers[5]) == 6)
        return (uint16_t)(numbers[4] << 8 | numbers[5]);
    if (at && sscanf(at, "(|||%u|)", &numbers[0]) == 1)
        return (uint16_t)numbers[0];
    return 0;
}

// --- Drawing -------------------------------------------------------------------------------------

static void transfers_pattern(char *data, uint64_t key, size_t size)
{
    for (size_t at = 0, part; at < size; at += part) {
        part = size - at < CLIENT_PIECE ? size - at : (size_t)CLIENT_PIECE;
        memcpy(data + at, client_pattern(key, at), part);
    }
}

// Some of its line feeds get a CR before them, where that matters.
static void transfers_draw_upload(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    const struct ftp_model *model = &script->files[transfer->file];
    transfer->wire_size = (size_t)client_scaled(script->control, 14);
    // Some fill several receive buffers at once.
    if (client_random(script->control, 4) == 0)
        transfer->wire_size = (size_t)client_random(script->control, FTP_FILE_MAX);
    if (client_random(script->control, 3) == 0 && model->there && !transfer->ascii &&
        transfer->kind == FTP_SIM_STORE)
        transfer->offset = client_random(script->control, model->size + 1);
    if (transfer->kind == FTP_SIM_APPEND && model->there &&
        model->size + transfer->wire_size > FTP_FILE_MAX)
        transfer->kind = FTP_SIM_STORE;
    if (transfer->offset + transfer->wire_size > FTP_FILE_MAX)
        transfer->offset = 0;
    transfer->key = 5000 + script->control->index * 64 + script->uploads++;
    transfers_pattern(transfer->wire, transfer->key, transfer->wire_size);
    for (size_t i = 0; transfer->ascii && i + 1 < transfer->wire_size; i += 29)
        memcpy(transfer->wire + i, "\r\n", 2);
}

static void transfers_draw_download(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    const struct ftp_model *model = &script->files[transfer->file];
    uint64_t size = transfer->kind == FTP_SIM_SHARED ? FTP_SHARED_SIZE : model->size;
    if (client_random(script->control, 3) == 0 && !transfer->ascii)
        transfer->offset = client_random(script->control, size + 1);
    transfer->wire_size = size - transfer->offset;
    if (transfer->kind == FTP_SIM_SHARED)
        return;
    transfer->wire_size = 0;
    for (size_t i = transfer->offset; i < size; i++) {
        if (transfer->ascii && model->data[i] == '\n' && (!i || model->data[i - 1] != '\r'))
            transfer->wire[transfer->wire_size++] = '\r';
        transfer->wire[transfer->wire_size++] = model->data[i];
    }
}

static void transfers_draw(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    transfer->used = transfer->altered = transfer->abort_said = false;
    transfer->reply = 0;
    transfer->offset = 0;
    transfer->file = (size_t)client_random(script->control, FTP_FILES);
    transfer->kind = (enum ftp_transfer_kind)client_random(script->control, 6);
    if (transfer->kind == FTP_SIM_SHARED && client_random(script->control, 2))
        transfer->kind = FTP_SIM_STORE;
    bool downloads = transfer->kind == FTP_SIM_RETRIEVE || transfer->kind == FTP_SIM_SHARED;
    if (transfer->kind == FTP_SIM_RETRIEVE && !script->files[transfer->file].there)
        transfer->kind = FTP_SIM_SHARED;
    transfer->ascii = client_random(script->control, 5) == 0 && transfer->kind != FTP_SIM_SHARED;
    transfer->aborts = client_random(script->control, 8) == 0;
    transfer->wire_size = FTP_LISTING_MAX / 8;
    if (transfers_uploads(transfer))
        transfers_draw_upload(script);
    else if (downloads)
        transfers_draw_download(script);
    script->before = script->files[transfer->file];
}

// --- What must have become of it -----------------------------------------------------------------

static bool transfers_line(const struct ftp_sim_transfer *transfer, const char *wanted)
{
    const char *at = transfer->listing, *end = at + transfer->client.received;
    size_t size = strlen(wanted);
    for (; at < end; at = (const char *)memchr(at, 10, (size_t)(end - at)) + 1) {
        const char *line_end = memchr(at, '\r', (size_t)(end - at));
        if (!line_end || line_end + 1 == end)
            return false;
        // The name stands at the end, the facts before it.
        if ((size_t)(line_end - at) >= size && memcmp(line_end - size, wanted, size) == 0)
            return true;
    }
    return false;
}

// All of the folder's files are in a whole listing.
static void transfers_check_listing(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    size_t lines = 0, files = 0;
    for (size_t i = 0; i < transfer->client.received; i++)
        lines += transfer->listing[i] == '\n';
    for (size_t i = 0; i < FTP_FILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%sf%zu", transfer->kind == FTP_SIM_FACTS ? " " : "", i);
        files += script->files[i].there;
        // A file that cannot be looked at now is left out.
        if (transfers_line(transfer, name) != script->files[i].there && !script->world->faulty)
            run_complain(script->world->run, "client %u: the listing is wrong about f%zu",
                         script->control->index, i);
    }
    if (lines != files && !script->world->faulty)
        run_complain(script->world->run, "client %u: the listing has %zu lines for %zu files",
                     script->control->index, lines, files);
}

static void transfers_check_upload(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    const struct client *client = &transfer->client;
    struct run *run = script->world->run;
    uint64_t sent = transfer->used ? client->sent : 0;
    if (transfer->reply != 226) {
        if (!ftp_model_broken_holds(script, sent))
            run_complain(run, "client %u: f%zu is not what a broken upload of %llu bytes leaves",
                         script->control->index, transfer->file, (unsigned long long)sent);
        ftp_model_adopt(script, transfer->file);
        return;
    }
    bool told = client->end == CLIENT_ENDS ? client->half_closed
                                           : client->end == CLIENT_CLOSES && client->done;
    if (!told)
        run_complain(run, "client %u: 226 for an upload that broke after %llu bytes",
                     script->control->index, (unsigned long long)sent);
    ftp_model_upload(script, &script->files[transfer->file], sent);
    if (!ftp_model_holds(script, transfer->file, &script->files[transfer->file]))
        run_complain(run, "client %u: f%zu is not what was sent, %llu bytes at %llu",
                     script->control->index, transfer->file, (unsigned long long)sent,
                     (unsigned long long)transfer->offset);
}

static void transfers_check_download(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    const struct client *client = &transfer->client;
    struct run *run = script->world->run;
    bool listing = transfer->kind == FTP_SIM_NAMES || transfer->kind == FTP_SIM_FACTS;
    if (transfer->altered)
        run_complain(run, "client %u: a download is altered among %llu bytes",
                     script->control->index, (unsigned long long)client->received);
    if (transfer->reply != 226 || !client->ended)
        return;
    if (listing)
        transfers_check_listing(script);
    else if (client->received != transfer->wire_size)
        run_complain(run, "client %u: 226 and the end after %llu of %zu bytes",
                     script->control->index, (unsigned long long)client->received,
                     transfer->wire_size);
}

// Goes on when the last reply came and the data connection is over.
static void transfers_settle(struct ftp_script *script)
{
    struct ftp_sim_transfer *transfer = &script->transfer;
    if (!transfer->reply || (transfer->used && !transfer->client.done) ||
        script->operation != &ftp_transfer_operation || script->stage != STAGE_LAST)
        return;
    if (!transfers_uploads(transfer))
        transfers_check_download(script);
    ftp_operation_over(script);
}

// --- The commands --------------------------------------------------------------------------------

enum { TRANSFERS_LOOK_NS = 10000, TRANSFERS_LATE_NS = 120000, TRANSFERS_LEAVE_NS = 20000 };

// Some are gone when the server has just heard what they want, and may be opening it.
static void transfers_leave(void *argument)
{
    struct client *control = argument;
    struct ftp_script *script = control->script;
    if (control->done || script->operation != &ftp_transfer_operation)
        return;
    if (control->sent >= script->command_at + script->command_size) {
        control->end = CLIENT_RESETS;
        client_end_now(control);
        return;
    }
    sim_at(control->run->sim, 1 + client_random(control, TRANSFERS_LEAVE_NS), transfers_leave,
           control);
}

static void transfers_say_transfer(struct ftp_script *script)
{
    static const char *const verbs[] = {
        [FTP_SIM_RETRIEVE] = "RETR", [FTP_SIM_SHARED] = "RETR", [FTP_SIM_STORE] = "STOR",
        [FTP_SIM_APPEND] = "APPE",   [FTP_SIM_NAMES] = "NLST",  [FTP_SIM_FACTS] = "MLSD",
    };
    const struct ftp_sim_transfer *transfer = &script->transfer;
    const char *verb = verbs[transfer->kind];
    if (transfer->kind == FTP_SIM_SHARED)
        ftp_say(script, "%s /shared.bin", verb);
    else if (transfer->kind == FTP_SIM_NAMES || transfer->kind == FTP_SIM_FACTS)
        ftp_say(script, "%s", verb);
    else
        ftp_say(script, "%s f%zu", verb, transfer->file);
    script->stage = STAGE_BEGIN;
    bool downloads = transfer->kind == FTP_SIM_RETRIEVE || transfer->kind == FTP_SIM_SHARED;
    if (downloads && client_random(script->control, 6) == 0)
        transfers_leave(script->control);
}

// The data connection comes when the server has just heard ABOR: it may be at the transfer's last
// job then, which takes about as long.
static void transfers_come_late(void *argument)
{
    struct client *data = argument;
    const struct ftp_script *script = transfers_script(data);
    const struct client *control = script->control;
    if (data->done || control->done)
        return;
    if (control->sent < script->command_at + script->command_size)
        sim_at(data->run->sim, TRANSFERS_LOOK_NS, transfers_come_late, data);
    else
        client_start(data, client_random(data, TRANSFERS_LATE_NS));
}

static void transfers_abort(void *argument)
{
    struct ftp_script *script = argument;
    struct ftp_sim_transfer *transfer = &script->transfer;
    if (script->operation != &ftp_transfer_operation || script->stage != STAGE_END ||
        script->control->done || !transfer->aborts || transfer->abort_said)
        return;
    transfer->abort_said = true;
    ftp_say(script, "ABOR");
    struct client *data = &transfer->client;
    if (!transfer->used || data->done || data->socket)
        return;
    sim_forget(script->world->run->sim, data);
    transfers_come_late(data);
}

static bool transfers_break(const struct ftp_sim_transfer *transfer)
{
    return transfer->client.end != CLIENT_ENDS || transfer->client.error || transfer->abort_said;
}

// A session that ends says nothing of its transfer, which may still do well.
static int transfers_reply(int code)
{
    return code == 421 ? 0 : code;
}

static void transfers_begun(struct ftp_script *script, int code)
{
    static const int begun[] = { 150, 0 }, broken[] = { 150, 425, 0 };
    struct ftp_sim_transfer *transfer = &script->transfer;
    if (code == 150) {
        script->stage = STAGE_END;
        if (transfer->aborts)
            sim_at(script->world->run->sim, client_scaled(script->control, 20), transfers_abort,
                   script);
        return;
    }
    // It was refused: the data connection is of no use.
    transfer->reply = transfers_reply(code);
    if (transfer->reply && transfers_uploads(transfer))
        transfers_check_upload(script);
    bool breaks = transfers_break(transfer);
    client_end_now(&transfer->client);
    if (ftp_expects(script, code, breaks ? broken : begun))
        ftp_operation_over(script);
}

static void transfers_ended(struct ftp_script *script, int code)
{
    static const int whole[] = { 226, 0 }, broken[] = { 226, 425, 426, 0 };
    static const int aborted[] = { 226, 425, 426, 451, 452, 550, 552, 553, 0 };
    struct ftp_sim_transfer *transfer = &script->transfer;
    transfer->reply = transfers_reply(code);
    if (transfer->reply && transfers_uploads(transfer))
        transfers_check_upload(script);
    const int *codes = transfers_break(transfer) ? broken : whole;
    if (code != 226)
        client_end_now(&transfer->client);
    if (!ftp_expects(script, code, transfer->abort_said ? aborted : codes))
        return;
    script->stage = transfer->abort_said ? STAGE_ABORTED : STAGE_LAST;
    transfers_settle(script);
}

static void transfers_aborted(struct ftp_script *script, int code)
{
    static const int expected[] = { 226, 0 };
    if (!ftp_expects(script, code, expected))
        return;
    script->stage = STAGE_LAST;
    transfers_settle(script);
}

static void transfers_next(struct ftp_script *script, int code)
{
    static const int typed[] = { 200, 0 }, passive[] = { 227, 229, 0 }, restarted[] = { 350, 0 };
    struct ftp_sim_transfer *transfer = &script->transfer;
    switch ((enum transfer_stage)script->stage) {
    case STAGE_TYPE:
        if (!code) {
            transfers_draw(script);
            ftp_say(script, "TYPE %c", transfer->ascii ? 'A' : 'I');
        } else if (ftp_expects(script, code, typed)) {
            script->stage = STAGE_PASSIVE;
            ftp_say(script, client_random(script->control, 2) ? "PASV" : "EPSV");
        }
        break;
    case STAGE_PASSIVE:
        if (!ftp_expects(script, code, passive))
            break;
        transfers_connect(script, transfers_port(script->line));
        if (transfer->offset) {
            script->stage = STAGE_RESTART;
            ftp_say(script, "REST %llu", (unsigned long long)transfer->offset);
        } else {
            transfers_say_transfer(script);
        }
        break;
    case STAGE_RESTART:
        if (ftp_expects(script, code, restarted))
            transfers_say_transfer(script);
        break;
    case STAGE_BEGIN:
        transfers_begun(script, code);
        break;
    case STAGE_END:
        transfers_ended(script, code);
        break;
    case STAGE_ABORTED:
    case STAGE_LAST:
        transfers_aborted(script, code);
    }
}

const struct ftp_sim_operation ftp_transfer_operation = { "transfer", transfers_next };
