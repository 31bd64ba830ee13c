// The files that a client's folder must have, as far as it was told.
#include <string.h>

#include "ftp_script.h"

void ftp_path(const struct ftp_script *script, size_t file, char ret_path[64])
{
    snprintf(ret_path, 64, "%s/c%u/f%zu", script->folder, script->control->index, file);
}

static bool model_content(const struct ftp_script *script, size_t file, const char **ret_data,
                          size_t *ret_size)
{
    char path[64];
    ftp_path(script, file, path);
    return sim_file_content(script->world->run->sim, path, ret_data, ret_size);
}

bool ftp_model_holds(const struct ftp_script *script, size_t file, const struct ftp_model *model)
{
    const char *data;
    size_t size;
    if (!model_content(script, file, &data, &size))
        return !model->there;
    return model->there && size == model->size && (!size || memcmp(data, model->data, size) == 0);
}

void ftp_model_adopt(struct ftp_script *script, size_t file)
{
    struct ftp_model *model = &script->files[file];
    const char *data;
    model->there = model_content(script, file, &data, &model->size);
    if (model->there && model->size)
        memcpy(model->data, data, model->size);
}

// The wire's bytes as a file has them: CR LF is one line feed where lines are converted.
static size_t model_decode(const struct ftp_sim_transfer *transfer, uint64_t sent, char *ret_data)
{
    size_t size = 0;
    for (size_t i = 0; i < sent; i++) {
        bool end = transfer->wire[i] == '\r' && i + 1 < sent && transfer->wire[i + 1] == '\n';
        if (!transfer->ascii || !end)
            ret_data[size++] = transfer->wire[i];
    }
    return size;
}

// Where an upload begins to write, and what it writes.
static size_t model_place(const struct ftp_script *script, uint64_t sent, char *ret_data,
                          size_t *ret_size)
{
    const struct ftp_sim_transfer *transfer = &script->transfer;
    *ret_size = model_decode(transfer, sent, ret_data);
    if (transfer->kind == FTP_SIM_APPEND)
        return script->before.there ? script->before.size : 0;
    return transfer->offset;
}

void ftp_model_upload(const struct ftp_script *script, struct ftp_model *model, uint64_t sent)
{
    static char data[FTP_FILE_MAX];
    const struct ftp_model *before = &script->before;
    const struct ftp_sim_transfer *transfer = &script->transfer;
    size_t size, offset = model_place(script, sent, data, &size);
    if (offset)
        memcpy(model->data, before->data, offset);
    memcpy(model->data + offset, data, size);
    model->there = true;
    model->size = offset + size; // what stood behind it goes, but where uploads are direct
    if (!script->world->uploads_direct || !transfer->offset || before->size <= model->size)
        return;
    memcpy(model->data + model->size, before->data + model->size, before->size - model->size);
    model->size = before->size;
}

static bool model_in_place(const struct ftp_script *script)
{
    const struct ftp_sim_transfer *transfer = &script->transfer;
    if (script->world->uploads_direct || transfer->offset)
        return true;
    return transfer->kind == FTP_SIM_APPEND && script->before.there;
}

bool ftp_model_broken_holds(const struct ftp_script *script, uint64_t sent)
{
    static char data[FTP_FILE_MAX];
    static struct ftp_model whole;
    const struct ftp_model *before = &script->before;
    const struct ftp_sim_transfer *transfer = &script->transfer;
    const char *is;
    size_t size, is_size, k = 0;
    if (ftp_model_holds(script, transfer->file, before))
        return true;
    // Whatever became of the reply: the end was told, and what came before it is there.
    bool told = transfer->client.half_closed ||
                (transfer->client.done &&
                 (transfer->client.end == CLIENT_CLOSES || transfer->client.end == CLIENT_ENDS));
    ftp_model_upload(script, &whole, sent);
    if (told && ftp_model_holds(script, transfer->file, &whole))
        return true;
    if (!model_in_place(script) || !model_content(script, transfer->file, &is, &is_size))
        return false;
    size_t offset = model_place(script, sent, data, &size);
    if (is_size < offset || (offset && memcmp(is, before->data, offset) != 0))
        return false;
    while (k < size && offset + k < is_size && is[offset + k] == data[k])
        k++;
    size_t end = offset + k;
    if (is_size == end)
        return true;
    return before->there && is_size == before->size &&
           memcmp(is + end, before->data + end, is_size - end) == 0;
}
