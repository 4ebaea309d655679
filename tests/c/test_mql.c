/* MongoDB's language on documents in memory: the recorded answers, and those
 * of tests/data/mql-more.jsonl, which are the manual's. */

#include "mqllib.h"

int
main(int argc, char **argv)
{
    static const struct oracle_backend memory = {mql_find, mql_update,
                                                 mql_aggregate, NULL};
    const char *only = argc > 1 ? argv[1] : "";

    return oracle_run(&memory, "mql-oracle.jsonl", only) +
               oracle_run(&memory, "mql-more.jsonl", only) !=
           0;
}
