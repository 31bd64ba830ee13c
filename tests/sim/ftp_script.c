// The control connection of a client: login, one operation after the other, QUIT.
#include "ftp_script.h"

#include <stdarg.h>
#include <string.h>

#include "calls.h"

// --- Saying and hearing --------------------------------------------------------------------------

void ftp_say(struct ftp_script *script, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(script->command, sizeof script->command - 2, format, arguments);
    va_end(arguments);
    strcpy(script->command + size, "\r\n");
    script->command_size = (size_t)size + 2;
    script->command_at = script->control->sent;
}

static bool script_has(const int *codes, int code)
{
    while (*codes && *codes != code)
        codes++;
    return *codes != 0;
}

// Whether it is the reply to a command whose job found no room. A download has none.
static bool script_refused(const struct ftp_script *script, int code)
{
    bool logs_in = !strncmp(script->command, "PASS", 4);
    return script->world->run->faults.chances[SIM_JOB_REFUSED] &&
           (logs_in ? code == 421 : code == 451 && strncmp(script->command, "RETR", 4) != 0);
}

// Replies of a server that lacks something, or is told to end.
static bool script_trouble(const struct ftp_script *script, int code)
{
    static const int of_files[] = { 450, 451, 452, 530, 550, 552, 553, 0 };
    static const int of_memory[] = { 425, 426, 451, 550, 553, 0 };
    const struct ftp_world *world = script->world;
    const struct run *run = world->run;
    if (script_refused(script, code))
        return true;
    if (code == 421)
        return run->lacks_memory || run->lacks_descriptors || run->drains || run->ages ||
               world->impatient || world->crowded || world->faulty;
    if (code == 425 || code == 426)
        return world->crowded || world->impatient || run->lacks_memory || run->lacks_descriptors ||
               run->faults.chances[SIM_ACCEPT_ERROR];
    if (world->faulty && script_has(of_files, code))
        return true;
    return (run->lacks_memory || run->lacks_descriptors) && script_has(of_memory, code);
}

bool ftp_expects(struct ftp_script *script, int code, const int *codes)
{
    if (script_has(codes, code))
        return true;
    if (!script_trouble(script, code))
        run_complain(script->world->run, "client %u: '%s' for '%.*s'", script->control->index,
                     script->line, (int)strcspn(script->command, "\r"), script->command);
    script->closing |= code == 421;
    ftp_operation_over(script);
    return false;
}

// --- Operations ----------------------------------------------------------------------------------

static void script_login(struct ftp_script *script, int code)
{
    static const int greeting[] = { 220, 0 }, password[] = { 331, 0 }, welcome[] = { 230, 0 },
                     wrong[] = { 530, 0 }, entered[] = { 250, 0 };
    switch (script->stage) {
    case 0:
        if (code && ftp_expects(script, code, greeting)) {
            script->stage = client_random(script->control, 6) ? 3 : 1;
            ftp_say(script, "USER %s", strstr(script->folder, "home") ? "two" : "one");
        }
        break;
    case 1:
        if (ftp_expects(script, code, password)) {
            script->stage = 2;
            ftp_say(script, "PASS wrong");
        }
        break;
    case 2:
        if (ftp_expects(script, code, wrong)) {
            script->stage = 3;
            ftp_say(script, "USER %s", strstr(script->folder, "home") ? "two" : "one");
        }
        break;
    case 3:
        if (ftp_expects(script, code, password)) {
            script->stage = 4;
            ftp_say(script, "PASS secret");
        }
        break;
    case 4:
        if (ftp_expects(script, code, welcome)) {
            script->stage = 5;
            ftp_say(script, "CWD /c%u", script->control->index);
        }
        break;
    default:
        if (ftp_expects(script, code, entered)) {
            script->entered = true;
            ftp_operation_over(script);
        }
    }
}

static void script_look(struct ftp_script *script, int code)
{
    static const struct {
        const char *command;
        int code;
    } rows[] = {
        { "NOOP", 200 },          { "SYST", 215 },        { "FEAT", 211 },
        { "HELP", 214 },          { "STAT", 211 },        { "PWD", 257 },
        { "MODE S", 200 },        { "CWD missing", 550 }, { "SIZE missing", 550 },
        { "ACCT a", 502 },        { "RNTO f0", 503 },     { "ABOR", 226 },
        { "TYPE E", 504 },        { "NONE", 500 },        { "MDTM missing", 550 },
        { "DELE ../../..", 550 },
    };
    const size_t count = sizeof rows / sizeof *rows;
    if (!code) {
        script->stage = (int)client_random(script->control, count);
        ftp_say(script, "%s", rows[script->stage].command);
    } else if (ftp_expects(script, code, (const int[]){ rows[script->stage].code, 0 })) {
        ftp_operation_over(script);
    }
}

// SIZE tells the truth of the model.
static void script_size(struct ftp_script *script, int code)
{
    static const int told[] = { 213, 0 }, missing[] = { 550, 0 };
    const struct ftp_model *model = &script->files[script->file];
    char wanted[32];
    switch (script->stage) {
    case 0:
        script->stage = 1;
        ftp_say(script, "TYPE I");
        break;
    case 1:
        if (!ftp_expects(script, code, (const int[]){ 200, 0 }))
            break;
        script->stage = 2;
        ftp_say(script, "SIZE f%zu", script->file);
        break;
    default:
        if (!ftp_expects(script, code, model->there ? told : missing))
            break;
        snprintf(wanted, sizeof wanted, "213 %zu", model->size);
        if (model->there && strcmp(script->line, wanted) != 0)
            run_complain(script->world->run, "client %u: '%s' for a size of %zu",
                         script->control->index, script->line, model->size);
        ftp_operation_over(script);
    }
}

static void script_delete(struct ftp_script *script, int code)
{
    static const int deleted[] = { 250, 0 }, missing[] = { 550, 0 };
    struct ftp_model *model = &script->files[script->file];
    if (!code) {
        ftp_say(script, "DELE f%zu", script->file);
    } else if (ftp_expects(script, code, model->there ? deleted : missing)) {
        model->there = false;
        ftp_operation_over(script);
    }
}

static void script_rename(struct ftp_script *script, int code)
{
    static const int ready[] = { 350, 0 }, renamed[] = { 250, 0 }, missing[] = { 550, 0 };
    struct ftp_model *from = &script->files[script->file], *to = &script->files[script->other];
    switch (script->stage) {
    case 0:
        script->stage = 1;
        ftp_say(script, "RNFR f%zu", script->file);
        break;
    case 1:
        if (!ftp_expects(script, code, from->there ? ready : missing))
            break;
        if (!from->there) {
            ftp_operation_over(script);
            break;
        }
        script->stage = 2;
        ftp_say(script, "RNTO f%zu", script->other);
        break;
    default:
        if (!ftp_expects(script, code, renamed))
            break;
        if (from != to) {
            *to = *from;
            from->there = false;
        }
        ftp_operation_over(script);
    }
}

// A folder that comes and goes.
static void script_folder(struct ftp_script *script, int code)
{
    static const int made[] = { 257, 0 }, removed[] = { 250, 0 };
    static const char *const commands[] = { "MKD sub", "CWD sub", "CDUP", "RMD sub" };
    if (!code) {
        ftp_say(script, "%s", commands[script->stage]);
    } else if (ftp_expects(script, code, script->stage ? removed : made)) {
        script->entered = ++script->stage == 4;
        if (script->entered)
            ftp_operation_over(script);
        else
            ftp_say(script, "%s", commands[script->stage]);
    }
}

// Several commands in one piece: they wait for the first, which is a job, and those behind HELP for
// its replies to be taken, where the stream's high mark is low, and those behind EPSV for a later
// turn.
static void script_pipeline(struct ftp_script *script, int code)
{
    static const int codes[][3] = {
        { 550, 451 }, { 200 }, { 214 }, { 229, 425 }, { 257 }, { 214 },
        { 229, 425 }, { 214 }, { 214 }, { 200 },      { 226 }, { 215 }
    };
    const int count = sizeof codes / sizeof *codes;
    if (!code)
        ftp_say(script, "RNFR missing\r\nNOOP\r\nHELP\r\nEPSV\r\nPWD\r\nHELP\r\nEPSV\r\nHELP\r\n"
                        "HELP\r\nTYPE I\r\nABOR\r\nSYST");
    else if (ftp_expects(script, code, codes[script->stage]) && ++script->stage == count)
        ftp_operation_over(script);
}

static void script_quit(struct ftp_script *script, int code)
{
    static const int goodbye[] = { 221, 0 };
    if (!code) {
        ftp_say(script, "QUIT");
    } else if (ftp_expects(script, code, goodbye)) {
        script->closing = true;
        script->control->ends_after = 0; // there is nothing to come
    }
}

static const struct ftp_sim_operation script_operations[] = {
    { "look", script_look },     { "size", script_size },     { "delete", script_delete },
    { "rename", script_rename }, { "folder", script_folder }, { "pipeline", script_pipeline },
};
static const struct ftp_sim_operation script_begin = { "login", script_login };
static const struct ftp_sim_operation script_end = { "quit", script_quit };

static void script_run(struct ftp_script *script, const struct ftp_sim_operation *operation)
{
    script->operation = operation;
    script->stage = 0;
    script->command_size = 0;
    script->file = (size_t)client_random(script->control, FTP_FILES);
    script->other = (size_t)client_random(script->control, FTP_FILES);
    operation->next(script, 0);
}

void ftp_script_start(struct ftp_script *script)
{
    script_run(script, &script_begin);
}

void ftp_operation_over(struct ftp_script *script)
{
    const size_t count = sizeof script_operations / sizeof *script_operations;
    if (script->closing || script->control->done || script->operation == &script_end)
        return;
    if (!script->left || !script->entered) {
        script_run(script, &script_end);
        return;
    }
    script->left--;
    if (client_random(script->control, 2))
        script_run(script, &ftp_transfer_operation);
    else
        script_run(script, &script_operations[client_random(script->control, count)]);
}

void ftp_script_reply(struct ftp_script *script, int code)
{
    if (script->closing)
        run_complain(script->world->run, "client %u: '%s' after the last reply",
                     script->control->index, script->line);
    else
        script->operation->next(script, code);
}

// What a command that was not answered may have done, or not.
bool ftp_script_file_holds(const struct ftp_script *script, size_t file)
{
    static const struct ftp_model gone = { .there = false };
    const struct ftp_model *model = &script->files[file];
    if (ftp_model_holds(script, file, model))
        return true;
    if (script->operation == &ftp_transfer_operation)
        return file == script->transfer.file && !script->transfer.reply &&
               ftp_model_broken_holds(script,
                                      script->transfer.used ? script->transfer.client.sent : 0);
    if (script->operation->next == script_delete)
        return file == script->file && ftp_model_holds(script, file, &gone);
    if (script->operation->next != script_rename || script->stage != 2)
        return false;
    return (file == script->file && ftp_model_holds(script, file, &gone)) ||
           (file == script->other && ftp_model_holds(script, file, &script->files[script->file]));
}
