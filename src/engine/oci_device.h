/* oci_device.h - the device nodes of a container, and who may use which. */
#ifndef LEV_OCI_DEVICE_H
#define LEV_OCI_DEVICE_H

#include "json.h"

/* Fills in `devices` (nodes to be made beside the usual ones) and `rules` (of
 * the devices cgroup: all denied but Docker's defaults). `wanted` is the
 * option "Devices" in the Engine API's form, or NULL; privileged: everything
 * that this machine has. ENGINE naming the device. */
int lev_oci_devices(bool privileged, const json_t *wanted, json_t *devices,
                    json_t *rules, struct lev_error *err);

#endif
