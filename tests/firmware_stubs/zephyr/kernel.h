/* Of Zephyr's kernel (3.4 and newer, where k_mem_slab_free takes the block) what the example uses. */
#ifndef ZEPHYR_KERNEL_H
#define ZEPHYR_KERNEL_H
#include <stddef.h>
#include <stdint.h>
struct k_mem_slab {
	char *buffer;
};
#define K_MEM_SLAB_DEFINE_STATIC(name, block_size, blocks, alignment) \
	static char name##_buffer[(block_size) * (blocks)]; \
	static struct k_mem_slab name = {name##_buffer}
void k_mem_slab_free(struct k_mem_slab *slab, void *block);
uint32_t k_uptime_get_32(void);
#endif
