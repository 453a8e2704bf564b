#ifndef ESP_ERR_H
#define ESP_ERR_H
typedef int esp_err_t;
#define ESP_OK 0
void esp_error_check_failed(esp_err_t error);
#define ESP_ERROR_CHECK(x) do { if ((x) != ESP_OK) { esp_error_check_failed(x); } } while (0)
#endif
