/* Of Zephyr's digital microphone interface what the example uses. */
#ifndef ZEPHYR_DMIC_H
#define ZEPHYR_DMIC_H

#include <zephyr/device.h>
#include <zephyr/kernel.h>

enum dmic_trigger { DMIC_TRIGGER_STOP, DMIC_TRIGGER_START };
enum pdm_lr { PDM_CHAN_LEFT, PDM_CHAN_RIGHT };

struct pdm_io_cfg {
	uint32_t min_pdm_clk_freq;
	uint32_t max_pdm_clk_freq;
	uint8_t min_pdm_clk_dc;
	uint8_t max_pdm_clk_dc;
};

struct pcm_stream_cfg {
	uint32_t pcm_rate;
	uint8_t pcm_width;
	uint16_t block_size;
	struct k_mem_slab *mem_slab;
};

struct pdm_chan_cfg {
	uint32_t req_chan_map_lo;
	uint32_t req_chan_map_hi;
	uint8_t req_num_chan;
	uint8_t req_num_streams;
};

struct dmic_cfg {
	struct pdm_io_cfg io;
	struct pcm_stream_cfg *streams;
	struct pdm_chan_cfg channel;
};

static inline uint32_t dmic_build_channel_map(uint8_t channel, uint8_t pdm, enum pdm_lr lr)
{
	return ((((uint32_t)pdm & 7U) << 1) | (uint32_t)lr) << ((channel & 7U) * 4U);
}

int dmic_configure(const struct device *device, struct dmic_cfg *config);
int dmic_trigger(const struct device *device, enum dmic_trigger command);
int dmic_read(const struct device *device, uint8_t stream, void **buffer, size_t *size,
	      int32_t timeout);

#endif
