{{- /* The ports of the brokers. */ -}}
{{- define "penstock.kafka.ports" -}}
{{- $ports := list -}}
{{- range .Values.kafka.bootstrapServers -}}
{{- $ports = append $ports (splitList ":" . | last | int) -}}
{{- end -}}
{{- default ($ports | uniq) .Values.networkPolicy.kafkaPorts | toJson -}}
{{- end }}

{{- /* The ports of the provider: that of its URL, or those that are named. */ -}}
{{- define "penstock.provider.ports" -}}
{{- $url := .Values.provider.baseUrl -}}
{{- $own := regexReplaceAll "^https?://[^/:]*:?([0-9]*).*$" $url "${1}" | int -}}
{{- $port := default (ternary 443 80 (hasPrefix "https:" $url)) $own -}}
{{- default (list $port) .Values.networkPolicy.providerPorts | toJson -}}
{{- end }}

{{- define "penstock.rule" -}}
- ports:
    {{- range .ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* What may be reached: names, and of kafka, postgres and provider those that `to` says. */ -}}
{{- define "penstock.egress" -}}
{{- $root := .root -}}
{{- $policy := $root.Values.networkPolicy -}}
- ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
  {{- with $policy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if has "kafka" .to }}
{{ include "penstock.rule" (dict "ports" (include "penstock.kafka.ports" $root | fromJsonArray) "to" $policy.kafka) }}
{{- end }}
{{- if has "postgres" .to }}
{{ include "penstock.rule" (dict "ports" (list (int (default $root.Values.postgres.port $policy.postgresPort))) "to" $policy.postgres) }}
{{- end }}
{{- if has "provider" .to }}
{{- if $root.Values.simulator.enabled }}
{{ include "penstock.rule" (dict "ports" (list 8090) "to" (list (dict "podSelector" (dict "matchLabels" (include "penstock.selector" (dict "root" $root "component" "simulator") | fromYaml))))) }}
{{- else }}
{{ include "penstock.rule" (dict "ports" (include "penstock.provider.ports" $root | fromJsonArray) "to" $policy.provider) }}
{{- end }}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
