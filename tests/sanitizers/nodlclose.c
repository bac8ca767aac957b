/*
 * nodlclose.c - keeps Open MPI's plug-ins in memory until a sanitizer has reported, so that its leaks
 * have names that can be suppressed. Linked into sanitizer builds of the ranks only.
 */
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
